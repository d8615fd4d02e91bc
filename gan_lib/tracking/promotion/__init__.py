"""Which version of a registered model production reads: the alias ``champion``, and how it moves."""
