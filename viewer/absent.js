// Stands for the Zarr reader and its decompressors (WebAssembly), of which the report shows nothing.
const absent = () => {
  throw new Error("Zarr is not part of this viewer");
};
export const open = absent;
export const get = absent;
export const root = absent;
export const slice = absent;
export class FetchStore {
  constructor() {
    absent();
  }
}
export default {};
