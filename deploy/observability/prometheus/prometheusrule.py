"""Write rules.yml as the object that Prometheus Operator reads, for deploy/kubernetes.

Run it after a change of the rules: ``python deploy/observability/prometheus/prometheusrule.py``.
"""

from pathlib import Path

RULES = Path(__file__).with_name("rules.yml")
OBJECT = Path(__file__).parents[2] / "kubernetes/components/monitoring/prometheusrule.yaml"
HEAD = """\
# Made of deploy/observability/prometheus/rules.yml by prometheusrule.py. Change the rules there.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: d3
  labels:
    app.kubernetes.io/name: d3
    app.kubernetes.io/component: server
spec:
"""


def prometheus_rule() -> str:
    """The object as YAML."""
    lines = RULES.read_text(encoding="utf-8").splitlines()
    return HEAD + "".join(f"  {line}\n" if line else "\n" for line in lines)


if __name__ == "__main__":
    OBJECT.write_text(prometheus_rule(), encoding="utf-8")
