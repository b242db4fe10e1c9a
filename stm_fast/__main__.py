"""`python -m stm_fast` is `stm-fast`."""

from stm_fast.cli.main import main

if __name__ == "__main__":
    main()
