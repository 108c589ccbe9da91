import { app } from "../../../scripts/app.js"

// The pack's example pictures lie in ComfyUI's temporary folder, which Load Image reads but does not list. A workflow that
// names one would be marked as if its picture were missing, so the name joins the choices of that one node.
const EXAMPLE = /^unclutter_\w+\.png \[temp\]$/

// The widget of a Load Image node that names its file; undefined on other nodes.
export const fileOf = (node) =>
  node.comfyClass?.startsWith("LoadImage") ? node.widgets?.find(({ name }) => name === "image") : undefined

// Adds a file to the choices of one such widget.
export function offer(widget, file) {
  const choices = widget.options?.values
  if (Array.isArray(choices) && !choices.includes(file)) widget.options.values = [...choices, file]
}

app.registerExtension({
  name: "Unclutter.ExamplePictures",
  loadedGraphNode(node) {
    const widget = fileOf(node)
    if (widget && EXAMPLE.test(widget.value)) offer(widget, widget.value)
  },
})
