"""The synthetic corpus: seeded generators, one module per family of tasks.

Rules of this package:

* every generator is a pure function of a ``random.Random`` and a ``Split``, so a seed is a data set;
* nothing here imports torch or numpy, so that the tests and the scorer stay light;
* what the model is judged on (wordings, sentence shapes) never occurs in the ``TRAIN`` split.
"""
