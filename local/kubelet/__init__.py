"""What Flink's native mode needs of a cluster beside its API: a Deployment's pod, and pods that become processes.

The Deployments are those that Flink's own client describes, whoever creates them; the JobManager asks the API for its
TaskManagers' pods itself, as it does on a cluster. It knows no FlinkDeployment and nothing of Headrace's records.
"""
