// Lists every operation of openapi.json; nothing here can be tried out, curl does that.
const make = (tag, text, className) => {
  const node = document.createElement(tag);
  if (text) node.textContent = text;
  if (className) node.className = className;
  return node;
};
const show = (schema, all, depth = 0) => {
  if (!schema || depth > 6) return "…";
  if (schema.$ref) return show(all[schema.$ref.split("/").pop()], all, depth + 1);
  const options = schema.anyOf || schema.oneOf;
  if (options) return options.map((one) => show(one, all, depth + 1)).join(" | ");
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" | ");
  if (schema.type === "array") return `[${show(schema.items, all, depth + 1)}]`;
  if (schema.properties) {
    const pad = "  ".repeat(depth + 1);
    const lines = Object.entries(schema.properties).map(([name, field]) => `${pad}${name}: ${show(field, all, depth + 1)}`);
    return `{\n${lines.join(",\n")}\n${"  ".repeat(depth)}}`;
  }
  return [schema.type || "any"].flat().join(" | ");
};

const main = document.getElementById("operations");
const answer = await fetch("/openapi.json", { credentials: "same-origin" });
if (!answer.ok) {
  main.append(make("p", "Sign in first.", "bad"));
} else {
  const doc = await answer.json();
  const schemas = doc.components.schemas;
  main.append(make("p", doc.info.description));
  for (const [path, item] of Object.entries(doc.paths)) {
    for (const [method, operation] of Object.entries(item)) {
      const box = make("details");
      const head = make("summary");
      head.append(make("code", `${method.toUpperCase()} ${path}`), ` ${operation.summary || ""}`);
      box.append(head, make("p", operation.description || "", "quiet"));
      const parameters = (operation.parameters || []).map((p) => `${p.in} ${p.name}${p.required ? " (required)" : ""}: ${p.description || show(p.schema, schemas)}`);
      if (parameters.length) box.append(make("pre", parameters.join("\n")));
      const body = operation.requestBody && operation.requestBody.content["application/json"];
      if (body) box.append(make("h3", "Body"), make("pre", show(body.schema, schemas)));
      for (const [status, reply] of Object.entries(operation.responses)) {
        if (Number(status) >= 400) continue;
        const content = Object.values(reply.content || {})[0];
        box.append(make("h3", `${status} ${reply.description}`));
        if (content) box.append(make("pre", show(content.schema, schemas)));
      }
      main.append(box);
    }
  }
}
