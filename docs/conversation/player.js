// Plays the recording of conversation.js in a page: two lanes, a cursor, and the words of both, lit while they are said.
// A plain script, so that it also runs in a page that is opened as a file.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const LANE = 40; // the height of one, in units of the picture
  const NAMES = { user: "User", agent: "Agent" };

  const make = (name, attributes = {}, ...inner) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...inner);
    return element;
  };

  const draw = (name, attributes, ...inner) => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...inner);
    return element;
  };

  const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;

  /** The outline of one voice: up along the loudness of its bars, and back below. */
  const outline = (bars, middle) => {
    const half = (bar) => Math.max(0.4, (bar / 100) * (LANE / 2 - 2));
    const above = bars.map((bar, place) => `${place} ${(middle - half(bar)).toFixed(1)}`);
    const below = bars.map((bar, place) => `${place} ${(middle + half(bar)).toFixed(1)}`).reverse();
    return `M${above.join("L")}L${below.join("L")}Z`;
  };

  /** Both voices twice: pale, and in full colour as far as they have been heard. */
  const lanes = (told, audio) => {
    const width = told.lanes.user.length;
    const heard = draw("rect", { x: 0, y: 0, width: 0, height: 2 * LANE });
    const cursor = draw("line", { x1: 0, x2: 0, y1: 0, y2: 2 * LANE, class: "cursor" });
    const paths = (part) =>
      Object.entries(told.lanes).map(([who, bars], place) =>
        draw("path", { d: outline(bars, (place + 0.5) * LANE), class: `${who} ${part}` }),
      );
    const picture = draw(
      "svg",
      { viewBox: `0 0 ${width} ${2 * LANE}`, preserveAspectRatio: "none", role: "img", "aria-label": "Both voices" },
      draw("defs", {}, draw("clipPath", { id: "duplex-heard" }, heard)),
      ...paths("all"),
      draw("g", { "clip-path": "url(#duplex-heard)" }, ...paths("heard")),
      cursor,
    );
    picture.addEventListener("click", (event) => {
      const box = picture.getBoundingClientRect();
      audio.currentTime = ((event.clientX - box.left) / box.width) * told.seconds;
    });
    const show = (seconds) => {
      const place = (seconds / told.seconds) * width;
      heard.setAttribute("width", place);
      cursor.setAttribute("x1", place);
      cursor.setAttribute("x2", place);
    };
    return { picture, show };
  };

  /** What both say, a line for each time that one of them speaks; a click on a line or a word goes there. */
  const transcript = (told, audio) => {
    const words = [];
    const list = make("ol");
    for (const { who, words: said } of told.utterances) {
      const go = make("button", { type: "button", "aria-label": `From ${clock(said[0][1])}` }, clock(said[0][1]));
      const line = make("li", { class: who }, go, make("b", {}, NAMES[who]), make("span"));
      for (const [text, start, end] of said) {
        const word = make("span", { class: "word" }, text);
        word.addEventListener("click", () => (audio.currentTime = start));
        words.push({ word, start, end });
        line.lastChild.append(word, " ");
      }
      go.addEventListener("click", () => {
        audio.currentTime = said[0][1];
        audio.play();
      });
      list.append(line);
    }
    const show = (seconds) => {
      for (const { word, start, end } of words) word.classList.toggle("said", start <= seconds && seconds < end);
    };
    return { list, show };
  };

  /** Have all of the sound in memory: servers without ranges, as `mkdocs serve` is one, let nobody go back or forth in it. */
  const keep = async (audio) => {
    if (!location.protocol.startsWith("http")) return; // a file has ranges, and may not be fetched
    const sound = await (await fetch(audio.src)).blob();
    if (audio.paused) audio.src = URL.createObjectURL(sound);
  };

  const start = (place) => {
    const told = window.duplexConversation;
    const audio = place.querySelector("audio");
    const sound = lanes(told, audio);
    const text = transcript(told, audio);
    const show = () => {
      sound.show(audio.currentTime);
      text.show(audio.currentTime);
      if (!audio.paused) requestAnimationFrame(show);
    };
    for (const name of ["play", "seeked", "ended"]) audio.addEventListener(name, show);
    place.querySelector("img").remove();
    place.prepend(sound.picture);
    place.append(text.list);
    keep(audio);
  };

  document.querySelectorAll(".duplex-conversation").forEach(start);
})();
