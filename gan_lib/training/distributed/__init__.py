"""What ranks say to each other, apart from gradients."""
