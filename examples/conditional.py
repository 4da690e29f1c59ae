"""A workflow from a YAML file: one condition, two branches, one end."""

from pathlib import Path

import yaml

import tenuto

app = tenuto.App("conditional")
app.register(yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")))

if __name__ == "__main__":
    print(tenuto.run(app.run("conditional", {"score": 0.7})))
