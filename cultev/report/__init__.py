"""What people read: tables. Computes nothing."""
