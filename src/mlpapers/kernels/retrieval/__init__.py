"""Documents of the kernel languages, and which of them fit a task."""
