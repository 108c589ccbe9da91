import { app } from "../../../scripts/app.js"
import { fileOf, offer } from "./example_pictures.js"

// "Remove object…" in the context menu of every node that shows a picture: paint over the object, save, and Remove Object
// stands beside the picture, wired to it and to the checkpoint that the graph has, with a preview behind it.
const EDITOR = "Comfy.MaskEditor.OpenMaskEditor"
const EDITOR_WINDOW = '[data-testid="mask-editor-root"]'
const GAP = 60

// Load Image does not list what the mask editor saves, so that undo and redo would mark the picture as if it were missing.
const painted = new Set()

app.registerExtension({
  name: "Unclutter.RemoveObject",
  getNodeMenuItems(node) {
    const known = LiteGraph.registered_node_types.UnclutterRemoveObject
    if (!known || !pictureOf(node) || !commands().some(({ id }) => id === EDITOR)) return []
    return [{ content: "Remove object…", callback: () => removeObject(node) }]
  },
  loadedGraphNode(node) {
    const widget = fileOf(node)
    if (widget && painted.has(widget.value)) offer(widget, widget.value)
  },
})

const commands = () => app.extensionManager?.command?.commands ?? []

// The picture that a node shows, as Load Image names it: "folder/file.png [output]"; undefined if it shows none.
function pictureOf(node) {
  const shown = node.imgs?.[node.imageIndex ?? 0]
  if (!shown?.src) return undefined
  const query = new URL(shown.src, location.href).searchParams
  const [file, folder, type] = ["filename", "subfolder", "type"].map((key) => query.get(key))
  if (!file) return undefined
  const path = folder ? `${folder}/${file}` : file
  return / \[\w+\]$/.test(path) ? path : `${path} [${type ?? "output"}]`
}

async function removeObject(node) {
  // One step of undo for all of it: the mask, and the nodes.
  app.canvas.emitBeforeChange()
  try {
    const loads = node.comfyClass === "LoadImage"
    const picture = loads ? node : await placeLoadImage(node)
    if (await paintMask(picture)) placeRemoveObject(picture)
    else if (!loads) picture.graph.remove(picture)
  } finally {
    app.canvas.emitAfterChange()
    app.canvas.setDirty(true, true)
  }
}

function placeBeside(neighbour, node) {
  neighbour.graph.add(node)
  node.pos = [neighbour.pos[0] + neighbour.size[0] + GAP, neighbour.pos[1]]
  return node
}

// The mask editor saves into a Load Image node: other nodes that show a picture hand it to a new one.
async function placeLoadImage(node) {
  const picture = LiteGraph.createNode("LoadImage")
  const widget = fileOf(picture)
  // A file outside of the input folder is no choice of Load Image, which would be marked as if the file were missing.
  offer(widget, pictureOf(node))
  widget.value = pictureOf(node)
  placeBeside(node, picture)
  widget.callback?.(widget.value)
  await until(() => picture.imgs?.length)
  return picture
}

// Opens the mask editor; whether a mask was saved when it has closed.
async function paintMask(picture) {
  const widget = fileOf(picture)
  const before = widget.value
  app.canvas.deselectAll()
  app.canvas.select(picture)
  await app.extensionManager.command.execute(EDITOR)
  await until(() => document.querySelector(EDITOR_WINDOW))
  await until(() => !document.querySelector(EDITOR_WINDOW), Infinity)
  if (widget.value === before) return false
  painted.add(widget.value)
  return true
}

function placeRemoveObject(picture) {
  const remove = placeBeside(picture, LiteGraph.createNode("UnclutterRemoveObject"))
  const preview = placeBeside(remove, LiteGraph.createNode("PreviewImage"))
  const input = (name) => remove.inputs.findIndex((slot) => slot.name === name)
  picture.connect(0, remove, input("image"))
  picture.connect(1, remove, input("mask"))
  const wanted = ["MODEL", "VAE", "CLIP"]
  const slot = (node, type) => node.outputs?.findIndex((output) => output.type === type) ?? -1
  const checkpoint = picture.graph.nodes.find((node) => wanted.every((type) => slot(node, type) >= 0))
  for (const type of checkpoint ? wanted : [])
    checkpoint.connect(slot(checkpoint, type), remove, input(type.toLowerCase()))
  remove.connect(0, preview, 0)
  app.canvas.deselectAll()
  app.canvas.select(remove)
}

async function until(condition, seconds = 20) {
  for (let waited = 0; !condition(); waited += 0.1) {
    if (waited > seconds) throw Error("Unclutter: the page did not open the mask editor")
    await new Promise((wake) => setTimeout(wake, 100))
  }
}
