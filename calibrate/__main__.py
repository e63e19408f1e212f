"""`python -m calibrate` is `calibrate`."""

from calibrate.cli import main

if __name__ == "__main__":
    main()
