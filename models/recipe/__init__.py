"""The recipe of the bundled model organism: its words, its grammar, its corpus and its training.

Nothing here imports the guard, the learner or the server; `lexicon`, `families`, `grammar`, `tasks` and `suites`
need the standard library alone.
"""
