"""Which numbers an evaluation gives, by configuration, and the protocol that each of them stands under."""
