"""`python -m moco_transfer`: the command, for torchrun and where no script is installed."""

from moco_transfer.command import main

if __name__ == "__main__":
    main()
