"""What work is: declarations of tasks, their options and conditions, and the JSON that passes between them. No I/O."""
