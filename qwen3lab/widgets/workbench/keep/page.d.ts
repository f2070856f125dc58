// Types of an exported page; read by the type checker only.

type PagePlace = [first: number, bytes: number];

interface PageScale {
  levels: number[];
  barTicks: [number, string][];
  scaleNote: string;
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
  quantities: { title: string; high: number; nothing: string; values: PagePlace }[];
  notes: { kind: "token" | "head" | "expert"; place: number[]; name: string; text: string }[];
  palette: PagePlace;
  attention: PageScale & { layers: number[]; heads: number; cells: PagePlace; nothing: string };
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
      })
    | null;
  picks: PagePicks;
}

interface PageWidgets {
  text: { render(view: WidgetView<TextTraits>): () => void };
  map: { render(view: WidgetView<CanvasTraits>): () => void };
}
