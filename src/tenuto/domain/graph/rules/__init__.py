"""The rules of a valid workflow, by concept; `validate.check` runs them all."""
