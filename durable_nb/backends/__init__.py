"""Where regular tasks run when this process is too small: each is an `engine.executors.Executor`."""
