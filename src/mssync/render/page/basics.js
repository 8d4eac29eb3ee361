// What every part needs: numbers as text, elements, and an order of values.

function number(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "n/a";
  const size = Math.abs(value);
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3).replace("-", "−");
}

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// Empty and unknown values come last, whichever way it is sorted.
function compare(one, other, descending) {
  const missing = (value) => value === null || value === undefined || value === "" || Number.isNaN(value);
  if (missing(one) || missing(other)) return missing(one) - missing(other);
  const sign = typeof one === "string" ? one.localeCompare(other, undefined, { numeric: true }) : one - other;
  return descending ? -sign : sign;
}
