"""One trial on the cluster: a driver without torch and its gang of warm ranks, behind Ray Tune."""
