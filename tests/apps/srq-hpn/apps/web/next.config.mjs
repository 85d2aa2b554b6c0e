/** @type {import("next").NextConfig} */
const config = {
  output: "standalone",
  // The app is its own root: server.js is at the top of the standalone directory.
  outputFileTracingRoot: import.meta.dirname,
  turbopack: { root: import.meta.dirname },
  outputFileTracingExcludes: { "*": ["node_modules/sharp/**", "node_modules/@img/**"] },
  images: { unoptimized: true },
  poweredByHeader: false,
};

export default config;
