"""The Jupyter side: the extension, its magics, the cells that define tasks. All of it lives on the kernel's main thread."""
