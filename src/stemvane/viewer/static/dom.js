// Elements of the page. Words become text, never markup.

/**
 * Make an element.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, any>} [properties] attributes; `class`, `text`, and `on…` handlers
 * @param {(Node | string | null)[]} [children]
 * @returns {HTMLElementTagNameMap[K]}
 */
export function element(tag, properties = {}, children = []) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") made.textContent = String(value);
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children) if (child !== null) made.append(child);
  return made;
}

/**
 * Put off an act to the next frame, in which it happens once however often it was asked for.
 * @param {() => void} act
 * @returns {() => void}
 */
export function oncePerFrame(act) {
  let isScheduled = false;
  return () => {
    if (isScheduled) return;
    isScheduled = true;
    requestAnimationFrame(() => {
      isScheduled = false;
      act();
    });
  };
}

/**
 * A button.
 * @param {string} text
 * @param {string} title what it does, with its key
 * @param {() => void} act
 * @param {string} [label] for screen readers, where the text is a sign
 */
export function button(text, title, act, label) {
  return element("button", { type: "button", text, title, "aria-label": label ?? null, onclick: act });
}

/**
 * A choice of a few buttons, one of which is pressed.
 * @param {string} label
 * @param {{value: string, text: string, title?: string}[]} options
 * @param {(value: string) => void} choose
 * @returns {{root: HTMLElement, show: (value: string) => void}}
 */
export function choice(label, options, choose) {
  const buttons = options.map(({ value, text, title }) =>
    element("button", {
      type: "button",
      text,
      title: title ?? text,
      "aria-pressed": "false",
      "data-value": value,
      onclick: () => choose(value),
    }),
  );
  return {
    root: element("div", { class: "choice", role: "group", "aria-label": label }, buttons),
    show: (value) => {
      for (const each of buttons) each.setAttribute("aria-pressed", String(each.dataset.value === value));
    },
  };
}

/**
 * A button with a drawn sign.
 * @param {string} path of an SVG of 16 units
 * @param {string} title
 * @param {() => void} act
 */
export function signButton(path, title, act) {
  const sign = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  sign.setAttribute("viewBox", "0 0 16 16");
  sign.setAttribute("aria-hidden", "true");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  line.setAttribute("d", path);
  sign.append(line);
  const made = element("button", { type: "button", class: "sign", title, "aria-label": title, onclick: act });
  made.append(sign);
  return made;
}

/**
 * A list to choose from.
 * @param {string} label
 * @param {(value: string) => void} choose
 */
export function selectBox(label, choose) {
  const box = element("select", { "aria-label": label });
  box.addEventListener("change", () => choose(box.value));
  return box;
}

/**
 * Offer a file for saving.
 * @param {string} name
 * @param {BlobPart} content
 * @param {string} type
 */
export function saveFile(name, content, type) {
  const address = URL.createObjectURL(new Blob([content], { type }));
  const link = element("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
