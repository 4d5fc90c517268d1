"""`python -m durable_nb`: the same as `durable-nb`."""

from durable_nb.cli import main

if __name__ == "__main__":
    main()
