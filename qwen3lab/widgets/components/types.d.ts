// Types of what Python and the scripts exchange; read by the type checker only.

/** The browser's side of an anywidget, with the traits that it shares with Python. */
interface WidgetModel<Traits> {
  get<Name extends keyof Traits>(name: Name): Traits[Name];
  set<Name extends keyof Traits>(name: Name, value: Traits[Name]): void;
  save_changes(): void;
  send(content: object): void;
  // biome-ignore lint/suspicious/noExplicitAny: the event's name decides what a handler receives.
  on(event: string, handler: (...values: any[]) => void): void;
  // biome-ignore lint/suspicious/noExplicitAny: as above.
  off(event: string, handler: (...values: any[]) => void): void;
}

/** Translations of the messages of a module, by the English ones; scripts.py writes them. */
declare const WORDS: Record<string, string>;

interface WidgetView<Traits> {
  model: WidgetModel<Traits>;
  el: HTMLElement;
}

interface NumberTraits {
  name: string;
  value: number;
  /** The numbers that can be picked, in ascending order. */
  values: number[];
  /** What each part is. */
  hints: { slider: string; field: string; earlier: string; later: string };
}

/** Tokens that are on the page, or off it, together. */
interface TokenBlock {
  el: HTMLElement;
  tokens: { data: ChipData; index: number }[];
  /** True if no further token goes into it. */
  isFull: boolean;
  /** True while its tokens are on the page. */
  isShown: boolean;
}

interface CopyTraits {
  text: string;
  label: string;
  hint: string;
  /** How often the text was copied. */
  copied: number;
}

/** Row and column of a cell of the map as sent, from 0. */
type Cell = [number, number];

interface AxisSpan {
  name: string;
  start: number;
  end: number;
  colour: string;
}

/** One axis of a map; label `i` belongs to position `first + i * step` of the full axis. */
interface MapAxis {
  title: string;
  unit: string;
  first: number;
  step: number;
  labels: string[];
  ticks: [number, string][];
  spans: AxisSpan[];
}

/** A heatmap as `heatmap.py` sends it: one byte per cell, 0 where there is no value. */
interface MapData {
  title: string;
  cells: DataView;
  shape: Cell;
  palette: DataView;
  rows: MapAxis;
  columns: MapAxis;
  valueTitle: string;
  /** What is special about the colour scale; empty for a linear one. */
  scaleNote: string;
  /** The value of each level from 1 to 255. */
  levels: number[];
  /** The colour, 0 to 255, of each level from 1 to 255; absent if they follow each other evenly. */
  colours?: Uint8Array;
  /** Place on the colour bar, from 0 to 1, and text. */
  barTicks: [number, string][];
  nothing: string;
  square: boolean;
}

/** A sentence in place of a map. */
interface EmptyMap {
  cells?: undefined;
  empty?: string;
}

interface CanvasTraits {
  map: MapData | EmptyMap;
  /** Sentences below the map, one a line. */
  caption: string;
  height: number;
  fills: boolean;
  selected: Cell;
  marked: Cell;
  framed: number[];
  zooms: boolean;
  zoomed: number[];
}

interface ThemeColours {
  ink: string;
  muted: string;
  face: string;
  nothing: string;
  accent: string;
  font: string;
}

/** Where the parts of a map are drawn, in CSS pixels. */
interface MapBox {
  left: number;
  top: number;
  width: number;
  height: number;
  total: number;
  cellWidth: number;
  cellHeight: number;
  rowLabels: number;
  columnLabels: number;
  rowEdge: number;
  columnEdge: number;
  isNumbered: boolean;
}

/** Visible text, probability, the same as text, and whether the token is in the text. */
type AlternativeData = [string, number, string, boolean];

interface AlternativeTraits {
  alternatives: AlternativeData[];
  note: string;
  hint: string;
  enabled: boolean;
  picked: number;
}

interface FindTraits {
  text: string;
  /** The place that is picked, from 0, or -1; and the number of places. */
  found: { hit: number; of: number };
}

/** What the numbers of a text are, and how they become shades; a state of an older version is linear. */
interface Shades {
  title: string;
  high: number;
  nothing: string;
  follows: boolean;
  low?: number;
  kind?: string;
  note?: string;
  clipped?: boolean;
}

interface TextTraits {
  /** Each token: its text, its part of the reply, and whether a line break follows. */
  text: { first: number; tokens: [string, string, boolean][] };
  token: number;
  picked: number;
  /** One 32-bit float for each token, NaN for none. */
  values: DataView;
  shades: Shades;
  shaded: number;
  /** First and past-the-end token of each place that is marked. */
  hits: [number, number][];
  /** Text of the note on a token, by its number; absent in older states. */
  notes?: Record<string, string>;
}

/** Text, text with visible whitespace, part, tooltip and kind of a token. */
type ChipData = [string, string, "thinking" | "answer", string, string];

/** What JupyterLab has for each comm. */
interface CommHandler {
  dispose(): void;
  onClose?: unknown;
  onMsg?: unknown;
  /** True once its `dispose` drops both. */
  qwen3labFrees?: boolean;
}

interface TranscriptTraits {
  /** The model of the layout, as ipywidgets has it. */
  layout?: { comm?: { jsServicesComm?: CommHandler } };
  reply: { run: number; question: string; chips: ChipData[] };
  progress: {
    thinking_tokens?: number;
    answer_tokens?: number;
    budget?: number | null;
    thinks?: boolean;
    is_running?: boolean;
    note?: string;
  };
  selected: number;
  marked: number;
}

/** New tokens of a reply: those from `first` on. */
interface ReplyMessage {
  kind: string;
  run: number;
  question: string;
  first: number;
  chips: ChipData[];
}

/** One sentence: its tokens, and the number of thinking tokens up to each of them. */
interface ThoughtStep {
  kept: number;
  tokens: string[];
  counts: number[];
}

interface ThoughtTraits {
  thinking: { steps: ThoughtStep[]; paragraphs: number[] };
  answers: Record<string, [string, boolean]>;
  marker: number;
  asking: number;
  picked: number;
}

interface PlotTraits {
  figure: string;
  fills: boolean;
  version: string;
  is_sent: boolean;
}

interface SaverTraits {
  text: string;
  name: string;
  said: string;
}

interface PlotTitle {
  text?: string;
}

interface PlotLayout {
  height: number;
  title?: PlotTitle;
  xaxis?: { title?: PlotTitle };
  yaxis?: { title?: PlotTitle };
}

/** The functions of plotly.js that plot.js calls. */
interface Plotly {
  react(root: HTMLElement, data: object[], layout: object, config: object): Promise<void>;
  purge(root: HTMLElement): void;
  /** The figure as the address of a picture. */
  toImage(root: HTMLElement, options: { format: string }): Promise<string>;
  Plots: { resize(root: HTMLElement): void };
}

/** What plotly.js adds to the element that it draws in. */
interface PlotRoot extends HTMLElement {
  data?: object[];
  on?(event: string, handler: (event: { points: { x: number | string }[] }) => void): void;
}

/** One version of plotly.js: its code, once it has arrived, and the library, once it has run. */
interface PlotLibrary {
  code: Promise<BlobPart>;
  deliver: (code: BlobPart) => void;
  loaded: Promise<Plotly> | null;
}

// `var` is the only form that adds a property to globalThis.
declare var Plotly: Plotly;
declare var qwen3labPlotly: Map<string, PlotLibrary> | undefined;
declare var qwen3labServesBenches: boolean | undefined;
