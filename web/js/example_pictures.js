import { app } from "../../../scripts/app.js"

// The pack's example pictures lie in ComfyUI's temporary folder, which Load Image reads but does not list. A workflow that
// names one would be marked as if its picture were missing, so the name joins the choices of that one node.
const EXAMPLE = /^unclutter_\w+\.png \[temp\]$/

app.registerExtension({
  name: "Unclutter.ExamplePictures",
  loadedGraphNode(node) {
    const widget = node.comfyClass?.startsWith("LoadImage") && node.widgets?.find(({ name }) => name === "image")
    const choices = widget?.options?.values
    if (Array.isArray(choices) && EXAMPLE.test(widget.value) && !choices.includes(widget.value))
      widget.options.values = [...choices, widget.value]
  },
})
