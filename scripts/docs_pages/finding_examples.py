"""For every finding a definition that has it and the same one put right; the tests check both, the page shows both."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[str, str]] = {
    "condition.constant": (
        """
nodes:
  - {id: a, kind: switch}
  - {id: b, kind: join}
edges:
  - {from: a, to: b, when: "1 < 2"}
""",
        """
nodes:
  - {id: a, kind: switch}
  - {id: b, kind: join}
edges:
  - {from: a, to: b, when: "input.n < 2"}
""",
    ),
    "reach.never_taken": (
        """
nodes:
  - {id: a, kind: switch}
  - {id: b, kind: join}
  - {id: c, kind: join}
edges:
  - {from: a, to: b, when: "false"}
  - {from: b, to: c}
""",
        """
nodes:
  - {id: a, kind: switch}
  - {id: b, kind: join}
  - {id: c, kind: join}
edges:
  - {from: a, to: b, when: "input.deep"}
  - {from: b, to: c}
""",
    ),
    "loop.no_exit": (
        """
nodes:
  - {id: try, kind: function, config: {handler: work}}
  - {id: look, kind: function, config: {handler: work}}
edges:
  - {from: try, to: look}
  - {from: look, to: try, max_iterations: 5}
""",
        """
nodes:
  - {id: try, kind: function, config: {handler: work}}
  - {id: look, kind: function, config: {handler: work}}
edges:
  - {from: try, to: look}
  - {from: look, to: try, max_iterations: 5, when: "!output.good"}
""",
    ),
    "loop.unbounded": (
        """
nodes:
  - {id: a, kind: function, config: {handler: work}}
  - {id: b, kind: function, config: {handler: work}}
edges:
  - {from: a, to: b}
  - {from: b, to: b, max_iterations: 1000, when: "output.more"}
  - {from: b, to: a, max_iterations: 1000, when: "output.again"}
""",
        """
nodes:
  - {id: a, kind: function, config: {handler: work}}
  - {id: b, kind: function, config: {handler: work}}
edges:
  - {from: a, to: b}
  - {from: b, to: b, max_iterations: 10, when: "output.more"}
  - {from: b, to: a, max_iterations: 10, when: "output.again"}
""",
    ),
    "race.shared_write": (
        """
nodes:
  - {id: a, kind: function, config: {tool: write_file, args: {path: report.md, content: "one"}}}
  - {id: b, kind: function, config: {tool: write_file, args: {path: report.md, content: "two"}}}
""",
        """
nodes:
  - {id: a, kind: function, config: {tool: write_file, args: {path: report.md, content: "one"}}}
  - {id: b, kind: function, config: {tool: write_file, args: {path: report.md, content: "two"}}}
edges:
  - {from: a, to: b}
""",
    ),
    "race.map_items": (
        """
nodes:
  - id: each
    kind: map
    config:
      over: "${input.names}"
      body:
        nodes:
          - {id: write, kind: function, config: {tool: write_file, args: {path: out.md, content: "${item}"}}}
""",
        """
nodes:
  - id: each
    kind: map
    config:
      over: "${input.names}"
      body:
        nodes:
          - {id: write, kind: function, config: {tool: write_file, args: {path: "${item}.md", content: "${item}"}}}
""",
    ),
    "approval.after_effect": (
        """
nodes:
  - {id: pay, kind: function, effect: effect, config: {handler: work}}
  - {id: ask, kind: approval, config: {message: "Pay?"}}
edges:
  - {from: pay, to: ask}
""",
        """
nodes:
  - {id: ask, kind: approval, config: {message: "Pay?"}}
  - {id: pay, kind: function, effect: effect, config: {handler: work}}
edges:
  - {from: ask, to: pay}
""",
    ),
    "approval.effect_before": (
        """
nodes:
  - {id: reserve, kind: function, effect: effect, config: {handler: work}}
  - {id: ask, kind: approval, config: {message: "Pay?"}}
  - {id: pay, kind: function, effect: effect, config: {handler: work}}
edges:
  - {from: reserve, to: ask}
  - {from: ask, to: pay}
""",
        """
nodes:
  - {id: reserve, kind: function, effect: idempotent, config: {handler: work}}
  - {id: ask, kind: approval, config: {message: "Pay?"}}
  - {id: pay, kind: function, effect: effect, config: {handler: work}}
edges:
  - {from: reserve, to: ask}
  - {from: ask, to: pay}
""",
    ),
    "approval.approves_itself": (
        """
nodes:
  - {id: ask, kind: approval, config: {message: "Pay?", timeout_s: 600, on_timeout: approve}}
  - {id: pay, kind: function, effect: effect, config: {handler: work}}
edges:
  - {from: ask, to: pay}
""",
        """
nodes:
  - {id: ask, kind: approval, config: {message: "Pay?", timeout_s: 600, on_timeout: reject}}
  - {id: pay, kind: function, effect: effect, config: {handler: work}}
edges:
  - {from: ask, to: pay}
""",
    ),
    "cap.tool_calls": (
        """
nodes:
  - {id: a, kind: function, config: {tool: read_file, args: {path: a.txt}}}
  - {id: b, kind: function, config: {tool: read_file, args: {path: b.txt}}}
edges:
  - {from: a, to: b}
budget: {tool_calls: 1}
""",
        """
nodes:
  - {id: a, kind: function, config: {tool: read_file, args: {path: a.txt}}}
  - {id: b, kind: function, config: {tool: read_file, args: {path: b.txt}}}
edges:
  - {from: a, to: b, when: "output.truncated"}
budget: {tool_calls: 1}
""",
    ),
    "cap.tokens": (
        """
nodes:
  - {id: write, kind: agent, config: {pattern: pipeline, prompt: "Write.", max_tokens: 4000}}
budget: {tokens: 2000}
""",
        """
nodes:
  - {id: write, kind: agent, config: {pattern: pipeline, prompt: "Write.", max_tokens: 1000}}
budget: {tokens: 2000}
""",
    ),
    "cap.wall_clock": (
        """
nodes:
  - {id: day, kind: wait, config: {seconds: 86400}}
  - {id: hour, kind: wait, config: {seconds: 3600}}
edges:
  - {from: day, to: hour}
budget: {wall_clock_s: 86400}
""",
        """
nodes:
  - {id: day, kind: wait, config: {seconds: 86400}}
  - {id: hour, kind: wait, config: {seconds: 3600}}
budget: {wall_clock_s: 86400}
""",
    ),
    "cap.subflow": (
        """
nodes:
  - {id: part, kind: subflow, config: {workflow: other, budget: {tokens: 5000}}}
budget: {tokens: 2000}
""",
        """
nodes:
  - {id: part, kind: subflow, config: {workflow: other, budget: {tokens: 1500}}}
budget: {tokens: 2000}
""",
    ),
    "cap.unused": (
        """
nodes:
  - {id: a, kind: function, config: {tool: read_file, args: {path: a.txt}}}
budget: {per_tool: {raed_file: 3}}
""",
        """
nodes:
  - {id: a, kind: function, config: {tool: read_file, args: {path: a.txt}}}
budget: {per_tool: {read_file: 3}}
""",
    ),
    "cap.late_timeout": (
        """
nodes:
  - {id: ask, kind: approval, config: {message: "Go on?", timeout_s: 7200}}
budget: {wall_clock_s: 3600}
""",
        """
nodes:
  - {id: ask, kind: approval, config: {message: "Go on?", timeout_s: 1800}}
budget: {wall_clock_s: 3600}
""",
    ),
    "secret.literal": (
        """
nodes:
  - id: get
    kind: http
    timeout_s: 10
    config: {url: "https://api.example.com", headers: {authorization: "Bearer 3f9a77c2e4b1408d9c5e"}}
""",
        """
nodes:
  - id: get
    kind: http
    timeout_s: 10
    config: {url: "https://api.example.com", headers: {accept: "application/json"}}
""",
    ),
    "secret.suspected": (
        """
nodes:
  - {id: a, kind: function, config: {tool: ledger, args: {api_key: "q8Zr2LmX0vTb5NwKc7Yh"}}}
""",
        """
nodes:
  - {id: a, kind: function, config: {tool: ledger, args: {api_key: "${input.key}"}}}
""",
    ),
    "cache.on_effect": (
        """
nodes:
  - id: send
    kind: http
    effect: pure
    cache: read_through
    timeout_s: 10
    config: {url: "https://api.example.com/orders", method: POST, body: {n: 1}}
""",
        """
nodes:
  - id: send
    kind: http
    effect: pure
    cache: read_through
    timeout_s: 10
    config: {url: "https://api.example.com/orders"}
""",
    ),
    "lock.order": (
        """
nodes:
  - id: one
    kind: map
    resources: [ledger]
    config:
      over: [1]
      body: {nodes: [{id: x, kind: function, resources: [archive], config: {handler: work}}]}
  - id: two
    kind: map
    resources: [archive]
    config:
      over: [1]
      body: {nodes: [{id: y, kind: function, resources: [ledger], config: {handler: work}}]}
""",
        """
nodes:
  - id: one
    kind: map
    resources: [ledger]
    config:
      over: [1]
      body: {nodes: [{id: x, kind: function, resources: [archive], config: {handler: work}}]}
  - id: two
    kind: map
    resources: [ledger]
    config:
      over: [1]
      body: {nodes: [{id: y, kind: function, resources: [archive], config: {handler: work}}]}
""",
    ),
    "lock.nested": (
        """
nodes:
  - id: each
    kind: map
    resources: [ledger]
    config:
      over: [1, 2]
      body: {nodes: [{id: x, kind: function, resources: [ledger], config: {handler: work}}]}
""",
        """
nodes:
  - id: each
    kind: map
    config:
      over: [1, 2]
      body: {nodes: [{id: x, kind: function, resources: [ledger], config: {handler: work}}]}
""",
    ),
    "retry.constant_key": (
        """
nodes:
  - id: pay
    kind: http
    timeout_s: 10
    config: {url: "https://api.example.com/pay", method: POST, headers: {Idempotency-Key: payment}}
""",
        """
nodes:
  - id: pay
    kind: http
    timeout_s: 10
    config: {url: "https://api.example.com/pay", method: POST, headers: {Idempotency-Key: "${input.order}"}}
""",
    ),
    "retry.unknown_effect": (
        """
nodes:
  - {id: pay, kind: function, effect: effect, on_unknown: retry, config: {handler: work}}
""",
        """
nodes:
  - {id: pay, kind: function, effect: effect, on_unknown: ask, config: {handler: work}}
""",
    ),
    "http.open_host": (
        """
nodes:
  - {id: get, kind: http, timeout_s: 10, config: {url: "${input.url}"}}
""",
        """
nodes:
  - {id: get, kind: http, timeout_s: 10, config: {url: "https://api.example.com/${input.path}"}}
""",
    ),
    "http.slow": (
        """
nodes:
  - {id: get, kind: http, config: {url: "https://api.example.com"}}
""",
        """
nodes:
  - {id: get, kind: http, timeout_s: 10, config: {url: "https://api.example.com"}}
""",
    ),
    "agent.no_token_limit": (
        """
nodes:
  - {id: write, kind: agent, config: {pattern: loop, prompt: "Write.", tools: [read_file]}}
""",
        """
nodes:
  - {id: write, kind: agent, config: {pattern: loop, prompt: "Write.", tools: [read_file]}}
budget: {tokens: 20000}
""",
    ),
    "map.no_concurrency": (
        """
nodes:
  - id: each
    kind: map
    config:
      over: "${input.paths}"
      body: {nodes: [{id: get, kind: http, timeout_s: 10, config: {url: "https://api.example.com/${item}"}}]}
""",
        """
nodes:
  - id: each
    kind: map
    config:
      over: "${input.paths}"
      concurrency: 4
      body: {nodes: [{id: get, kind: http, timeout_s: 10, config: {url: "https://api.example.com/${item}"}}]}
""",
    ),
    "input.unused": (
        """
input_schema: {type: object, properties: {order: {type: string}, colour: {type: string}}}
nodes:
  - {id: a, kind: transform, config: {template: "${input.order}"}}
""",
        """
input_schema: {type: object, properties: {order: {type: string}}}
nodes:
  - {id: a, kind: transform, config: {template: "${input.order}"}}
""",
    ),
    "input.undeclared": (
        """
input_schema: {type: object, properties: {order: {type: string}}, additionalProperties: false}
nodes:
  - {id: a, kind: transform, config: {template: ["${input.order}", "${input.ordre}"]}}
""",
        """
input_schema: {type: object, properties: {order: {type: string}}, additionalProperties: false}
nodes:
  - {id: a, kind: transform, config: {template: ["${input.order}"]}}
""",
    ),
}
