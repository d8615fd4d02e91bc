"""What every Spark job needs: a session, work handed to executors, a watch on how far it is."""
