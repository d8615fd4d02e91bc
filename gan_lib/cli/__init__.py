"""The command ``gan-lib``, which the package installs."""
