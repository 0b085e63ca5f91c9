"""CUDA kernels for what a gateway computes itself, each with a NumPy twin.

No kernel lives here yet. What will: exact vector search, top-k and score fusion for retrieval, written
through CuPy, one file per operation: the kernel, its launcher, the shapes of every pointer. The twin is the
reference that the tests compare with, and what runs on a machine without a GPU.

The folder above, ``kernels/``, has no ``__init__.py`` on purpose: it is a place in the repository, not a
package. A top-level package named ``kernels`` would shadow Hugging Face's; the import name is this one,
``gateway_kernels``. It imports nothing of ``gateway``.
"""
