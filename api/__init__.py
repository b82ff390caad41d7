"""The HTTP service: it validates, accepts and reads. It never talks to Kubernetes but for the CRD's Flink versions."""
