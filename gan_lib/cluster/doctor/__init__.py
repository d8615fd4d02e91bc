"""What jobs/doctor.py finds out before a job starts: what every machine of the cluster has, reaches and lacks."""
