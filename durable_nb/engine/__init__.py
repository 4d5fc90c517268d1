"""What happens next: the scheduler, the replay cursor, waits, eviction and ownership."""
