import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

export default defineConfig({
  base: "/react/",
  plugins: [react()],
  server: {
    fs: { allow: [".."] }, // for the style sheet, which both pages share
    proxy: { "/api": "http://127.0.0.1:8000" }, // whose page has to be opened once, for the cookie
  },
});
