"""Long experiments in seeded blocks whose results add up over several runs; ``__main__`` is the command."""
