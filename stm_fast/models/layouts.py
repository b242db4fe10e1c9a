"""Names of our parameters in weights that others published."""

_OFFICIAL = (
    ("query_encoder.", "Encoder_Q."),
    ("memory_encoder.", "Encoder_M."),
    ("normalize.", ""),
    ("stem.rgb.", "conv1."),
    ("stem.mask.", "conv1_m."),
    ("stem.others.", "conv1_o."),
    ("stem.norm.", "bn1."),
    ("stem.0.", "conv1."),
    ("stem.1.", "bn1."),
    ("stages.", ""),
    ("reduce.0.", "conv1."),
    ("reduce.1.", "bn1."),
    ("spatial.0.", "conv2."),
    ("spatial.1.", "bn2."),
    ("expand.0.", "conv3."),
    ("expand.1.", "bn3."),
    ("shortcut.", "downsample."),
    ("query_head.key.", "KV_Q_r4.Key."),
    ("query_head.value.", "KV_Q_r4.Value."),
    ("memory_head.key.", "KV_M_r4.Key."),
    ("memory_head.value.", "KV_M_r4.Value."),
    ("decoder.", "Decoder."),
    ("compress.", "convFM."),
    ("refine8.", "RF3."),
    ("refine4.", "RF2."),
    ("skip_block.", "ResFS."),
    ("merge_block.", "ResMM."),
    ("block.", "ResMM."),
    ("skip.", "convFS."),
    ("predict.", "pred2."),
)

_TORCHVISION = (("res2.", "layer1."), ("res3.", "layer2."), ("res4.", "layer3."))

_NOT_IN_TRUNK = ("mean", "std", "conv1_m.weight", "conv1_o.weight")


def official_name(name: str) -> str:
    """Return the name of a parameter of `resnet50_stm()` in the released `STM_weights.pth`, without `module.`."""
    for ours, theirs in _OFFICIAL:
        name = name.replace(ours, theirs)
    return name


def torchvision_name(name: str) -> str | None:
    """Return the name of a parameter of an encoder of `resnet50_stm()` in torchvision's `resnet50`.

    None for what a ResNet does not have: heads, decoder, mask convolutions, normalisation.
    """
    encoder, _, name = official_name(name).partition(".")
    if not encoder.startswith("Encoder_") or name in _NOT_IN_TRUNK:
        return None
    for ours, theirs in _TORCHVISION:
        name = name.replace(ours, theirs)
    return name
