"""How weights move: gradients, optimisers, learning-rate schedules, running averages."""
