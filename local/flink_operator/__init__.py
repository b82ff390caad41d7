"""The local Flink operator: runs FlinkDeployments as real Flink processes, and reports as the real operator does.

It knows the Kubernetes API and Flink, and nothing of Headrace but where its entrypoint lies in the checkout.
"""
