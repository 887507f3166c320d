// Goes after OHIF's settings: its MONAI Label mode with the tab "Segmentation" of its others, in which masks are corrected and submitted.
// As built, that tab's "Export DICOM SEG" fails: two commands have one name, and the one that is run is told of no place to store to.
window.config.modes = [
  {
    id: '@ohif/mode-monai-label', // the first mode of an id counts
    modeFactory: async ({ loadModules }) => {
      const [built] = await loadModules(['@ohif/mode-monai-label']);
      const mode = built.modeFactory({});
      const [route] = mode.routes;
      const { layoutTemplate } = route;
      route.layoutTemplate = (given) => {
        const layout = layoutTemplate(given);
        layout.props.rightPanels.push('@ohif/extension-cornerstone.panelModule.panelSegmentationWithTools');
        return layout;
      };
      const { onModeEnter } = mode;
      mode.onModeEnter = (managers) => {
        onModeEnter(managers);
        managers.servicesManager.services.toolbarService.addButtons(tools);
        const { commandsManager, extensionManager } = managers;
        keepBackground(extensionManager.getModuleEntry('@ohif/extension-monai-label.panelModule.monailabel').component().type);
        commandsManager.registerCommand('SEGMENTATION', 'storeSegmentation', {
          commandFn: ({ segmentationId }) => submit(segmentationId, managers),
        });
        const load = commandsManager.getCommand('loadSegmentationsForViewport', 'SEGMENTATION').commandFn;
        commandsManager.registerCommand('SEGMENTATION', 'loadSegmentationsForViewport', {
          commandFn: (given) => {
            given.segmentations.forEach(colour);
            return load(given);
          },
        });
      };
      return mode;
    },
  },
];

const radius = (tool) => ({
  name: 'Radius (mm)',
  id: `${tool}-radius`,
  type: 'range',
  min: 1,
  max: 30,
  step: 0.5,
  value: 4, // OHIF's own brushes begin with 25 mm, wider than any wall of a heart
  commands: { commandName: 'setBrushSize', commandOptions: { toolNames: [tool] } },
});
const button = (id, icon, tool, options = []) => ({
  id,
  icon,
  label: id,
  evaluate: { name: 'evaluate.cornerstone.segmentation', toolNames: [tool] },
  options: [...options, { name: 'Shape', id: `${tool}-shape`, type: 'radio', value: tool, values: [{ value: tool, label: 'Circle' }], commands: 'setToolActiveToolbar' }],
});
// The mode names these two groups, and has neither.
const tools = [
  {
    id: 'BrushTools',
    uiType: 'ohif.buttonGroup',
    props: {
      groupId: 'BrushTools',
      items: [
        button('Brush', 'icon-tool-brush', 'CircularBrush', [radius('CircularBrush')]),
        button('Eraser', 'icon-tool-eraser', 'CircularEraser', [radius('CircularEraser')]),
      ],
    },
  },
  { id: 'Shapes', uiType: 'ohif.radioGroup', props: button('Fill', 'icon-tool-shape', 'CircleScissor') },
];

// The mode derives a structure's colour from its name: the two cavities, whose names differ by a letter, look alike.
function colour({ config }) {
  for (const segment of Object.values(config.segments)) segment.color = structureColours[segment.label] ?? segment.color;
}

// The panel takes the background that has points for a structure: it shows one of the others as a fourth segment, and its points in black.
function keepBackground(Panel) {
  Panel.prototype.componentDidUpdate = function () {
    const points = this.actions.pointprompts.current;
    if (!points || points.knowsBackground) return;
    const { segmentInfo } = points;
    points.segmentInfo = () => ({ ...segmentInfo(), background: { color: [204, 204, 204] } });
    points.knowsBackground = true;
    const { updateView } = this;
    this.updateView = (response, model, labels, ...more) => {
      const structures = labels.filter((label) => label !== 'background');
      return updateView(response, model, structures.length ? structures : this.state.info.modelLabelNames[model], ...more);
    };
    this.forceUpdate(); // the tab gets it as a property
  };
}

async function submit(segmentationId, { commandsManager, extensionManager, servicesManager }) {
  const annotator = window.prompt('Submit as (your name):', localStorage.getItem('annotator') ?? '');
  if (annotator === null) return;
  localStorage.setItem('annotator', annotator);
  const request = new XMLHttpRequest();
  const told = { title: 'Label submitted', message: 'The server has stored it as a new version.', type: 'success' };
  try {
    const { dataset } = withSortedSlices(segmentationId, () =>
      commandsManager.runCommand('generateSegmentation', {
        segmentationId,
        options: { SeriesDescription: 'Heart', ContentCreatorName: annotator },
      })
    );
    dataset.SpecificCharacterSet = 'ISO_IR 192'; // in which it is written, and which it does not say
    await extensionManager.getActiveDataSource()[0].store.dicom(dataset, request);
    const warning = request.getResponseHeader('Warning');
    if (warning) Object.assign(told, { message: warning.slice('299 - "'.length, -1), type: 'warning' });
  } catch (error) {
    Object.assign(told, { title: 'Label not submitted', message: sentence(request) ?? error.message, type: 'error', duration: 20000 });
  }
  servicesManager.services.uiNotificationService.show(told);
}

// The command sorts the images, from the last along their normal to the first, and not the masks on them: these have to come in that
// order, or they end up on other slices.
function withSortedSlices(segmentationId, generate) {
  const { cornerstone, cornerstoneTools } = window;
  const { Labelmap } = cornerstoneTools.segmentation.state.getSegmentation(segmentationId).representationData;
  const { imageIds } = Labelmap;
  const along = (imageId) => {
    const image = cornerstone.metaData.get('instance', cornerstone.cache.getImage(imageId).referencedImageId);
    const [a, b, c, d, e, f] = image.ImageOrientationPatient;
    const [x, y, z] = image.ImagePositionPatient;
    return x * (b * f - c * e) + y * (c * d - a * f) + z * (a * e - b * d);
  };
  Labelmap.imageIds = [...imageIds].sort((one, other) => along(other) - along(one));
  try {
    return generate();
  } finally {
    Labelmap.imageIds = imageIds;
  }
}

function sentence(request) {
  try {
    return JSON.parse(request.responseText).detail;
  } catch {
    return request.status ? undefined : 'The server cannot be reached: check that it is running, and submit it again.';
  }
}
