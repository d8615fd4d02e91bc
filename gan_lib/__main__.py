"""``python -m gan_lib COMMAND ...`` is ``gan-lib COMMAND ...``."""

from gan_lib.cli.main import main

if __name__ == "__main__":
    main()
