// Types of an exported page; read by the type checker only.

type PagePlace = [first: number, bytes: number];

interface PageScale {
  levels: number[];
  barTicks: [number, string][];
  scaleNote: string;
}

/** A colour scale that a person chose. */
interface ChosenScale {
  /** The colour, 0 to 255, of each level from 1. */
  colours: PagePlace;
  barTicks: [number, string][];
  scaleNote: string;
  shades: PageShades;
}

/** The scales, and for each map the place of its scale among them. */
interface ChosenScales {
  scales: ChosenScale[];
  of: number[];
}

interface PageShades {
  high: number;
  low: number;
  kind: string;
  note: string;
  clipped: boolean;
}

interface PagePicks {
  layer: number;
  head: number;
  routingLayer: number;
  expert: number;
  token: number;
  tab: string;
}

/** What `html_page.py` writes; places are those of bytes in the packed part. */
interface PageData {
  model: string;
  question: string;
  reply: string;
  tokens: [string, string, boolean][];
  spans: AxisSpan[];
  quantities: (PageShades & { title: string; nothing: string; values: PagePlace })[];
  notes: { kind: "token" | "head" | "expert"; place: number[]; name: string; text: string }[];
  palette: PagePlace;
  attention: PageScale & {
    layers: number[];
    heads: number;
    cells: PagePlace;
    nothing: string;
    /** Of the heads of each layer; null for the scale that the cells are stored on. */
    chosen: ChosenScales | null;
  };
  wall: {
    map: Omit<MapData, "cells" | "palette">;
    cells: PagePlace;
    pitch: number;
    gap: number;
  } | null;
  routing:
    | (PageScale & {
        layers: number[];
        nExperts: number;
        perToken: number;
        experts: PagePlace;
        weights: PagePlace;
        chosen: ChosenScales | null;
      })
    | null;
  picks: PagePicks;
}

interface PageWidgets {
  text: { render(view: WidgetView<TextTraits>): () => void };
  map: { render(view: WidgetView<CanvasTraits>): () => void };
}
