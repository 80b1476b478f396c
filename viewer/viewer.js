// The report's viewer: one image of the page's data with one overlay, in three planes and as a solid, by NiiVue.
// Data: {images: [{name, nifti}], overlays: [{name, nifti, kind: "labels" | "heat", low, high}], regions: [[name, number, "#rrggbb"]]};
// every nifti is a gzipped NIfTI in base64, all on one template's axes. Nothing is fetched.
import { MULTIPLANAR_TYPE, NVImage, Niivue, SHOW_RENDER } from "@niivue/niivue";

const PLAIN = "none";
const FADES_BELOW = 2; // COLORMAP_TYPE.ZERO_TO_MAX_TRANSLUCENT_BELOW_MIN, which NiiVue does not export

function element(tag, words, more = {}) {
  return Object.assign(document.createElement(tag), { textContent: words }, more);
}

function choice(label, names) {
  const field = element("label", `${label} `);
  const select = document.createElement("select");
  names.forEach((name, place) => select.append(element("option", name, { value: String(place) })));
  field.append(select);
  return [field, select];
}

function lut(regions) {
  const of = (hex, place) => parseInt(hex.slice(place, place + 2), 16);
  const rows = [["", 0, "#000000"], ...regions].sort((a, b) => a[1] - b[1]);
  return {
    R: rows.map((row) => of(row[2], 1)),
    G: rows.map((row) => of(row[2], 3)),
    B: rows.map((row) => of(row[2], 5)),
    A: rows.map((row) => (row[1] ? 255 : 0)),
    I: rows.map((row) => row[1]),
    labels: rows.map((row) => row[0]),
  };
}

async function volume(told, more) {
  const image = await NVImage.loadFromBase64({ base64: told.nifti, name: `${told.name}.nii.gz`, ...more });
  return image;
}

export async function open(holder, data) {
  const canvas = element("canvas", "", { width: 960, height: 640 });
  const place = element("p", "", { className: "note" });
  place.setAttribute("aria-live", "polite");
  const bar = element("div", "", { className: "controls" });
  const [imageField, image] = choice("Image", data.images.map((one) => one.name));
  const [overlayField, overlay] = choice("Overlay", [PLAIN, ...data.overlays.map((one) => one.name)]);
  const [viewField, view] = choice("View", ["three planes", "three planes and solid", "solid"]);
  const opacityField = element("label", "Opacity ");
  const opacity = element("input", "", { type: "range", min: "0", max: "100", value: "70" });
  opacityField.append(opacity);
  bar.append(imageField, overlayField, opacityField, viewField);
  const frame = element("div", "", { className: "canvas" });
  frame.append(canvas);
  holder.replaceChildren(bar, frame, place);

  const nv = new Niivue({
    backColor: [0, 0, 0, 1],
    clipPlaneColor: [0, 0, 0, 0],
    crosshairColor: [0.5, 0.85, 1, 0.8],
    crosshairWidth: 0.6,
    dragAndDropEnabled: false,
    isColorbar: true,
    isOrientationTextVisible: true,
    isRadiologicalConvention: false, // the left of the picture is the left of the brain, as everywhere in the report
    multiplanarShowRender: SHOW_RENDER.NEVER,
    show3Dcrosshair: false,
    logLevel: "error",
    onLocationChange: (found) => {
      const [x, y, z] = found.mm.map((mm) => Math.round(mm));
      const values = found.values.map((one, k) => `${k ? overlays.at(+overlay.value - 1).name : data.images[+image.value].name} ${told(one, k)}`);
      place.textContent = `x ${x}, y ${y}, z ${z} mm: ${values.join("; ")}`;
    },
  });
  const overlays = data.overlays;
  function told(one, k) {
    const kind = k ? overlays[+overlay.value - 1].kind : "image";
    if (kind !== "labels") return String(Math.round(one.value * 100) / 100);
    const found = data.regions.find((row) => row[1] === Math.round(one.value));
    return found ? found[0] : "no region";
  }
  await nv.attachToCanvas(canvas);
  nv.setMultiplanarLayout(MULTIPLANAR_TYPE.AUTO);

  let wanted = 0;
  async function draw() {
    const mine = ++wanted;
    const chosen = overlays[+overlay.value - 1];
    const made = [await volume(data.images[+image.value], { colormap: "gray", colorbarVisible: false })];
    if (chosen) {
      const heat = chosen.kind === "heat" ? { colormap: "inferno", cal_min: chosen.low, cal_max: chosen.high, trustCalMinMax: false } : { colorbarVisible: false };
      const over = await volume(chosen, { opacity: opacity.value / 100, ...heat });
      if (chosen.kind === "heat") over.colormapType = FADES_BELOW; // a hard edge would show the grid, not the map
      if (chosen.kind === "labels") over.setColormapLabel(lut(data.regions));
      made.push(over);
    }
    if (mine !== wanted) return; // another choice was made meanwhile
    while (nv.volumes.length) nv.removeVolumeByIndex(0);
    made.forEach((one) => nv.addVolume(one));
    nv.updateGLVolume();
    holder.dataset.drawn = String(mine);
  }
  function show() {
    const kind = +view.value;
    nv.opts.multiplanarShowRender = kind === 1 ? SHOW_RENDER.ALWAYS : SHOW_RENDER.NEVER;
    nv.setSliceType(kind === 2 ? nv.sliceTypeRender : nv.sliceTypeMultiplanar);
    if (kind) nv.setClipPlane([0.1, 180, 20]);
  }
  image.onchange = draw;
  overlay.onchange = draw;
  view.onchange = show;
  opacity.oninput = () => {
    if (nv.volumes.length > 1) nv.setOpacity(1, opacity.value / 100);
  };
  if (overlays.length) overlay.value = String(data.first ?? 1);
  nv.setSliceType(nv.sliceTypeMultiplanar);
  await draw();
  if (data.centre_mm) nv.scene.crosshairPos = nv.mm2frac(data.centre_mm);
  nv.drawScene();
}

globalThis.elrViewer = { open };
