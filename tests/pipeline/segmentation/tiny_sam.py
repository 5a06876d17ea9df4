"""SAM 2 and SAM 3 of the smallest size, with random weights, saved as the hub publishes theirs."""

SAM2_SIDE = 128
SAM3_SIDE = 112


def sam2_config():
    """1.2 million parameters: every part of SAM 2.1, each as small as it may be."""
    from transformers import Sam2HieraDetConfig, Sam2VideoConfig, Sam2VisionConfig
    from transformers.models.sam2_video.configuration_sam2_video import (
        Sam2VideoMaskDecoderConfig,
        Sam2VideoPromptEncoderConfig,
    )

    channels, hidden = [8, 16, 32, 64], 128
    backbone = Sam2HieraDetConfig(
        hidden_size=8,
        image_size=[SAM2_SIDE, SAM2_SIDE],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=channels,
        num_attention_heads_per_stage=[1, 1, 2, 2],
        global_attention_blocks=[3],
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=channels[::-1],
        backbone_feature_sizes=[[SAM2_SIDE // stride] * 2 for stride in (4, 8, 16)],
        fpn_hidden_size=hidden,
    )
    return Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config=Sam2VideoPromptEncoderConfig(image_size=SAM2_SIDE, hidden_size=hidden),
        mask_decoder_config=Sam2VideoMaskDecoderConfig(hidden_size=hidden, mlp_dim=128, iou_head_hidden_dim=64),
        image_size=SAM2_SIDE,
        memory_attention_rope_feat_sizes=[SAM2_SIDE // 16] * 2,
        memory_attention_hidden_size=hidden,
        memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=128,
        memory_encoder_hidden_size=hidden,
        memory_encoder_output_channels=64,
        mask_downsampler_embed_dim=hidden,
        memory_fuser_embed_dim=hidden,
        memory_fuser_intermediate_dim=128,
    )


def made_confident(torch, decoder, layer, gain):
    """Random weights expect an IoU of a half of every mask and are sure of no pixel: move both to where a trained
    decoder has them, so that masks pass. `layer` gives the last linear layer of a head, `gain` multiplies logits."""
    with torch.no_grad():
        layer(decoder.iou_prediction_head).bias += 3.0
        for head in decoder.output_hypernetworks_mlps:
            layer(head).weight *= gain
            layer(head).bias *= gain
        layer(decoder.pred_obj_score_head).bias += 3.0


def save_sam2(torch, folder):
    """sam2.1-hiera-tiny/ in `folder`; returns `folder`."""
    from transformers import Sam2VideoModel

    torch.manual_seed(1)
    model = Sam2VideoModel(sam2_config())
    with torch.no_grad():
        embedding = model.prompt_encoder.shared_embedding.positional_embedding
        model.shared_image_embedding.positional_embedding.copy_(embedding)
    made_confident(torch, model.mask_decoder, lambda head: head.proj_out, 20_000)
    model.save_pretrained(folder / "sam2.1-hiera-tiny")
    return folder


def sam3_config(width=32):
    from transformers import Sam3Config

    hidden = {"hidden_size": width, "num_attention_heads": 4}
    small = hidden | {"intermediate_size": 32, "num_layers": 1}
    vit = hidden | {
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "image_size": SAM3_SIDE,
        "pretrain_image_size": 56,
        "window_size": 4,
        "global_attn_indexes": [1],
        "model_type": "sam3_vit_model",
    }
    return Sam3Config(
        vision_config={
            "backbone_config": vit,
            "fpn_hidden_size": width,
            "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
            "model_type": "sam3_vision_model",
        },
        text_config=hidden
        | {
            "vocab_size": 16,
            "intermediate_size": 32,
            "projection_dim": width,
            "num_hidden_layers": 1,
            "max_position_embeddings": 32,
            "eos_token_id": 1,
            "bos_token_id": 0,
            "model_type": "clip_text_model",
        },
        geometry_encoder_config=small,
        detr_encoder_config=small,
        detr_decoder_config=small | {"num_queries": 12},
        mask_decoder_config=hidden,
    )


def sam3_video_config():
    """Detector and tracker behind one backbone, as in the published checkpoint."""
    from transformers import Sam3TrackerVideoConfig, Sam3VideoConfig

    # The width of a memory is 64 whatever the configuration says, and what becomes one has to be wider.
    detector, hidden = sam3_config(128), 128
    tracker = Sam3TrackerVideoConfig(
        vision_config=detector.vision_config.to_dict(),
        prompt_encoder_config={"hidden_size": hidden, "image_size": SAM3_SIDE},
        mask_decoder_config={"hidden_size": hidden, "mlp_dim": 32, "iou_head_hidden_dim": 32},
        image_size=SAM3_SIDE,
        memory_attention_hidden_size=hidden,
        memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=32,
        memory_encoder_hidden_size=hidden,
        mask_downsampler_embed_dim=hidden,
        memory_fuser_embed_dim=hidden,
        memory_fuser_intermediate_dim=32,
    )
    return Sam3VideoConfig(detector_config=detector.to_dict(), tracker_config=tracker.to_dict())


def save_sam3(torch, folder, *, tracker=False):
    """sam3/ in `folder`, the detector alone or the tracker beside it, with a tokenizer that knows a few words; returns
    `folder`."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import Sam3Model, Sam3VideoModel

    torch.manual_seed(5)
    model = Sam3VideoModel(sam3_video_config()) if tracker else Sam3Model(sam3_config())
    with torch.no_grad():
        # Random weights are sure of nothing: make the scores and the masks differ.
        for name, each in (model.detector_model if tracker else model).named_parameters():
            if each.ndim > 1 and ("mask_embedder" in name or "dot_product" in name or "text_projection" in name):
                each.mul_(12)
    if tracker:
        made_confident(torch, model.tracker_model.mask_decoder, lambda head: head.proj_out, 20_000)
    target = folder / "sam3"
    model.save_pretrained(target)
    words = ["<|startoftext|>", "<|endoftext|>", "a", "red", "truck", "tree", "house"]
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token=words[1]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [(words[0], 0), (words[1], 1)]
    tokenizer.post_processor = processors.TemplateProcessing(f"{words[0]} $A {words[1]}", special_tokens=ends)
    tokenizer.save(str(target / "tokenizer.json"))
    return folder


def edgetam_settings():
    """config.json of an EdgeTAM as the hub has it, each part as small as it may be; occlusion and time are left out of
    its memory, as in the published one."""
    channels, hidden = [8, 16, 32, 64], 128
    return {
        "model_type": "edgetam_video",
        "architectures": ["EdgeTamVideoModel"],
        "vision_config": {
            "model_type": "edgetam_vision_model",
            "backbone_config": {
                "model_type": "timm_wrapper",
                "architecture": "repvit_m1.dist_in1k",
                "do_pooling": False,
                "num_classes": 1000,
                "model_args": {
                    "in_chans": 3,
                    "features_only": True,
                    "out_indices": [0, 1, 2, 3],
                    "embed_dim": channels,
                    "depth": [1, 2, 2, 1],
                },
            },
            "backbone_channel_list": channels[::-1],
            "backbone_feature_sizes": [[SAM2_SIDE // stride] * 2 for stride in (4, 8, 16)],
            "fpn_hidden_size": hidden,
        },
        "prompt_encoder_config": {"image_size": SAM2_SIDE, "hidden_size": hidden},
        "mask_decoder_config": {"hidden_size": hidden, "mlp_dim": 128, "iou_head_hidden_dim": 64},
        "image_size": SAM2_SIDE,
        "enable_occlusion_spatial_embedding": False,
        "enable_temporal_pos_encoding_for_object_pointers": False,
        "memory_attention_rope_feat_sizes": [SAM2_SIDE // 16] * 2,
        "memory_attention_rope_k_sizes": [4, 4],
        "memory_attention_hidden_size": hidden,
        "memory_attention_num_layers": 1,
        "memory_attention_mlp_hidden_size": 128,
        "perceiver_resampler_num_latents": 16,
        "perceiver_resampler_num_latents_2d": 16,
        "perceiver_resampler_num_layers": 1,
        "memory_encoder_hidden_size": hidden,
        "memory_encoder_output_channels": 64,
        "mask_downsampler_embed_dim": hidden,
        "memory_fuser_embed_dim": hidden,
        "memory_fuser_intermediate_dim": 128,
    }


def save_edgetam(torch, folder):
    """EdgeTAM-hf/ in `folder`, normalised by means and deviations that are not those of a new layer; returns it."""
    import json

    from safetensors.torch import save_file

    from pipeline.segmentation.sam2 import edgetam

    torch.manual_seed(3)
    model = edgetam.built(edgetam_settings())
    with torch.no_grad():
        embedding = model.prompt_encoder.shared_embedding.positional_embedding
        model.shared_image_embedding.positional_embedding.copy_(embedding)
        for each in model.modules():
            if isinstance(each, torch.nn.BatchNorm2d):
                each.weight.uniform_(0.5, 1.5)
                each.running_mean.normal_(0, 0.1)
                each.running_var.uniform_(0.5, 1.5)
    made_confident(torch, model.mask_decoder, lambda head: head.proj_out, 20_000)
    target = folder / "EdgeTAM-hf"
    target.mkdir()
    (target / "config.json").write_text(json.dumps(edgetam_settings()))
    save_file({name: each.clone() for name, each in model.state_dict().items()}, target / "model.safetensors")
    return folder
