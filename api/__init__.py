"""The HTTP service: it validates, accepts and reads. Of Kubernetes it reads the CRD's Flink versions, and logs and
events for those who look at a job."""
