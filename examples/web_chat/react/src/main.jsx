import { createRoot } from "react-dom/client";
import "../../page/style.css";
import { App } from "./App.jsx";

createRoot(document.getElementById("root")).render(<App />);
