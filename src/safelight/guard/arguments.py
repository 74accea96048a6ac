"""Names of pipeline arguments: which of them hold numbers only, which images, and which are refused."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import numpy as np

from safelight.errors import RequestError

# The arguments that a guarded call fixes: the only value that is accepted, and the error for any other.
_FIXED: dict[str, tuple[Any, str]] = {
    "output_type": ("pil", "the guard screens PIL images; leave output_type as it is."),
    "return_dict": (True, "the guard returns a Result; leave return_dict as it is."),
    "num_images_per_prompt": (1, "use n for the number of images, not num_images_per_prompt."),
    "num_videos_per_prompt": (1, "the guard generates images only; leave num_videos_per_prompt out."),
    "num_prompts_per_image": (1, "the guard takes one prompt per image; leave num_prompts_per_image out."),
    "batch_size": (1, "use n for the number of images, not batch_size."),
}

_GENERATORS = frozenset({"generator", "step_generator"})

# Every argument of the pipelines in diffusers 0.42 that consists of numbers and can neither describe what to
# generate nor switch off a protection, and common numbers in their dictionaries of options ("scale",
# "boxes"). Left out on purpose: token ids and class labels, which describe what to generate;
# enable_safety_check and sld_*, which switch off a pipeline's own protection.
_NUMBERS = frozenset(
    """
    _auto_resize adain_factor adapter_conditioning_factor adapter_conditioning_scale add_duration_template
    add_generation_prompt add_noise_to_image_latents add_noise_to_video_latents add_predicted_noise
    add_resolution_template addnoise_condition aesthetic_score ar_step attn_res attn_store_steps
    audio_cover_strength audio_duration audio_duration_s audio_end_in_s audio_guidance_rescale
    audio_guidance_scale audio_length_in_s audio_modality_scale audio_start_in_s audio_stg_scale
    augment_sigma base_num_frames block_length boxes bpm callback_steps caption_upsample_temperature
    causal_block_size cfg_interval_end cfg_interval_start cfg_normalization cfg_normalize cfg_renorm_min
    cfg_trunc_ratio cfg_truncation chunk_partition circular_padding clean_caption clip_skip clip_value
    cond_strength condition_frame_indexes_vision condition_num_frames conditional_frame_timestep
    conditioning_attention_strength conditioning_scale confidence_threshold control_guidance_end
    control_guidance_start control_mode controlnet_conditioning_scale controlnet_frame_indices
    controls_conditioning_scale crop_start crops_coords_top_left cross_attention_guidance_amount data_type
    debug decode_chunk_size decode_horizontal_tiles decode_noise_scale decode_overlap decode_timestep
    decode_vertical_tiles decoder_guidance_scale decoder_num_inference_steps decoder_timesteps
    denoise_strength denoising_end denoising_start denormalize distilled_guidance_scale do_patching
    do_sample double_return_token_id duration edit_cooldown_steps edit_guidance_scale edit_mom_beta
    edit_momentum_scale edit_threshold edit_warmup_steps edit_weights editing_threshold enable_cfg_renorm
    enable_denormalization enable_prompt_enhancement enable_prompt_rewrite enable_sound
    enable_temporal_attentions enable_temporal_reasoning enforce_inference_steps ensemble_size
    eos_early_stop eta expand_prompts fps frame_ids frame_index frame_rate frame_size frames freeze_audio
    gen_length generate_slots gligen_boxes gligen_normalize_constant gligen_scheduled_sampling_beta
    guess_mode guidance_keyframe_positions guidance_keyframe_strength guidance_rescale guidance_scale
    guidance_scale_2 guidance_schedule guiding_strength height history_sizes image_cond_noise_scale
    image_crf image_emb_end image_emb_len image_emb_start image_embed_interleave image_guidance_scale
    image_noise_sigma_max image_noise_sigma_min img_guidance_scale init_noise_level inpaint_strength
    input_frames_guidance input_images_mask input_phrases_mask intermediate_timesteps inverse_folding
    is_amplify_first_chunk is_skip_first_chunk jump_length jump_n_sample keep_first_frame
    keyframe_positions latent_window_size latents_normalized layers logsnr_max logsnr_min lq_noise_scale
    mask_end_seconds mask_end_secs mask_feature mask_start_seconds mask_start_secs match_input_resolution
    max_area max_guidance_scale max_input_image_size max_iter_to_alter max_lyric_length max_new_tokens
    max_post_steps max_seconds max_sequence_length max_text_length max_timesteps
    micro_conditioning_aesthetic_score micro_conditioning_crop_coord min_guidance_scale min_overlap
    min_seconds minimal_topk mixed_precision_first_steps mixed_precision_last_steps modality_scale
    motion_bucket_id motion_encode_batch_size motion_field_strength_x motion_field_strength_y motion_scale
    motion_speed mu negative_aesthetic_score negative_crops_coords_top_left negative_index_strength
    negative_original_size negative_target_size noise_aug_strength noise_level noise_scale normalize
    num_ar_conditional_frames num_ar_latent_conditional_frames num_beams num_frames num_frames_per_chunk
    num_inference_steps num_latent_conditional_frames num_latent_frames_per_chunk
    num_temporal_reasoning_steps original_inference_steps original_size output_latent output_resolution
    output_uncertainty overlap_history padding_mask_crop pag_adaptive_scale pag_scale parallel
    partial_t_bb_ca partial_t_local_latents pooled_prompt_embeds_scale prev_segment_conditioning_frames
    prior_guidance_scale prior_num_inference_steps prior_timesteps processing_resolution
    prompt_embeds_scale prompt_enhancement_seed prompt_max_new_tokens prompt_reps prompt_strength
    prompt_upsampling prompt_upsampling_temperature proportional_attn pyramid_num_inference_steps_list
    reference_downscale_factor render_text_images repainting_end repainting_start repetition_penalty
    resolution resolution_scale return_index reverse_editing_direction round_index sag_scale sample_audio
    scale scale_factor scaling_watershed segment_frame_length shift sigma_conditioning sigmas
    silence_padding_duration skip_guidance_layers skip_layer_guidance_scale skip_layer_guidance_start
    skip_layer_guidance_stop skip_steps_sigma_threshold skip_text_cleaning slice source_guidance_scale
    source_seconds spatial_patch_size spatio_temporal_guidance_blocks stability_threshold start_step std
    steps stg_scale store_averaged_over_steps strength super_res_num_inference_steps t0 t1 target_fps
    target_size temperature temporal_overlap temporal_overlap_cond_strength temporal_patch_size
    temporal_tile_size text_encoder_out_layers text_to_image_strength threshold thresholds
    tiles_batch_size timesteps token_indices tokenizer_max_length tolerance tone_map_compression_ratio
    top_k top_p true_cfg_scale truncation_rate upsampling_height upsampling_strength upsampling_width
    use_chat_template use_clipped_model_output use_cross_attn_mask use_cross_timestep use_dynamic_cfg
    use_en_prompt use_input_image_size_as_output use_intersect_mask use_kv_cache use_mean_velocity use_pe
    use_resolution_binning use_system_prompt use_zero_init vae_batch_size video_length
    video_noise_sigma_max video_noise_sigma_min view_batch_size width zero_steps
    """.split()  # noqa: SIM905 - three hundred quoted names would fill three hundred lines
)

_OPAQUE = re.compile(r"embed|callback|(?:^|_)loras?(?:_|$)")
_IMAGES = re.compile(r"(?:^|_)(?:images?|mask|video|frames|controls|hint|depth_map|reference)(?:_|$)")
_NOT_IMAGES = re.compile(r"embed|latent|attention|prompt|phrases|audio|token")
_PROMPT = re.compile(r"(?:source_)?prompt(?:_\d+)?")
_NEGATIVE_PROMPT = re.compile(r"(?:\w+_)?neg(?:ative)?_prompts?(?:_\d+)?")
_IMAGE_BY_PROMPT = re.compile(r"(?:mask_|control_|original_)?image")

_WIDEST_NUMBER = 2**63
_MOST_NUMBERS = 10_000
_DEEPEST_LIST = 4


def checked_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of arguments as a tuple. Raises ``RequestError`` for anything but a list of names."""
    if isinstance(names, str) or not all(isinstance(name, str) and name for name in names):
        raise RequestError('allow_arguments is a list of names of arguments, such as ("latents",).')
    if always := sorted(_FIXED.keys() & set(names)):
        raise RequestError(f"{always[0]} has a fixed value; remove it from allow_arguments.")
    return tuple(names)


def is_fixed(name: str) -> bool:
    return name in _FIXED


def fixed(name: str, value: Any) -> Any:
    """Return the only value that the argument may have. Raises ``RequestError`` for any other."""
    wanted, why = _FIXED[name]
    kind = type(wanted)
    if not isinstance(value, kind) or kind(value) != wanted:
        raise RequestError(why)
    return wanted


def is_generator(name: str) -> bool:
    return name in _GENERATORS


def generators(name: str, value: Any) -> Any:
    """Return the random generator, or a new list of several. Raises ``RequestError`` for anything else."""
    if isinstance(value, list | tuple):
        return [generators(name, each) for each in tuple(value)]
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(value, torch.Generator):
        raise RequestError(f"{name} is a torch.Generator or a list of them, not {_kind(value)}.")
    return value


def is_number(name: str) -> bool:
    """Whether the argument is known to hold only numbers, which can carry neither text nor an image."""
    return name in _NUMBERS


def numbers(name: str, value: Any) -> Any:
    """Return the numbers as plain Python numbers, lists, tuples and dictionaries.

    Raises ``RequestError`` for anything else, so that no text or image passes under the name of a number.
    """
    return _numbers(name, value, 0, count(1))


def _numbers(name: str, value: Any, depth: int, counted: Iterator[int]) -> Any:
    if next(counted) > _MOST_NUMBERS:
        raise RequestError(f"{name} has more than {_MOST_NUMBERS:,} numbers; give fewer.")
    value = _listed(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return _finite(name, int.__int__(value) if isinstance(value, int) else float.__float__(value))
    if not isinstance(value, list | tuple | dict | range) or depth == _DEEPEST_LIST:
        raise RequestError(f"{name} is a number, or a list of numbers, not {_kind(value)}.")
    if isinstance(value, dict):
        pairs = dict.items(value)
        return {key: _numbers(name, item, depth + 1, counted) for key, item in pairs if _is_index(name, key)}
    each = [_numbers(name, item, depth + 1, counted) for item in value]
    return tuple(each) if isinstance(value, tuple) else each


def _is_index(name: str, key: Any) -> bool:
    """Return True for a plain whole number. Raises ``RequestError`` for another key of a dictionary."""
    if type(key) is not int:
        raise RequestError(f"{name} has the key {_kind(key)}; its keys are whole numbers.")
    return True


def is_opaque(name: str) -> bool:
    """Whether the argument is refused whatever its value: embeddings, model changes, callbacks."""
    return bool(_OPAQUE.search(name))


def takes_images(name: str) -> bool:
    """Whether an array in this argument is an image, and a text in it is the path of an image file."""
    return bool(_IMAGES.search(name)) and not _NOT_IMAGES.search(name)


def is_negative_prompt(name: str) -> bool:
    return bool(_NEGATIVE_PROMPT.fullmatch(name))


def is_prompt(name: str) -> bool:
    """Whether the argument is one text for all prompts, or a list with one text for each prompt."""
    return is_negative_prompt(name) or bool(_PROMPT.fullmatch(name))


def goes_by_prompt(name: str) -> bool:
    """Whether a list in this argument has one item for each prompt."""
    return is_prompt(name) or bool(_IMAGE_BY_PROMPT.fullmatch(name))


def refusal(argument: str, place: str, value: Any) -> str:
    """Return the error message for a refused value at ``place`` in ``argument``: the reason and a remedy."""
    if "embeds" in argument:
        return f"{place} cannot be screened; give the prompt as text."
    remedy = f'leave it out, or allow it with Guard(..., allow_arguments=("{argument}",)).'
    if "callback" in argument:
        return f"{place} sees images before they are screened and can replace embeddings; {remedy}"
    return f"{place} ({_kind(value)}) cannot be screened; {remedy}"


def _kind(value: Any) -> str:
    return "text" if isinstance(value, str) else type(value).__name__


def is_tensor(value: Any) -> bool:
    """Whether the value is a PyTorch tensor. PyTorch is not imported for this."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _listed(value: Any) -> Any:
    """Return a NumPy number, or an array of at most one dimension, as plain Python values."""
    if is_tensor(value) and value.ndim <= 1:
        return value.detach().cpu().tolist()
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim <= 1):
        return value.tolist()
    return value


def _finite(name: str, value: int | float) -> int | float:
    if not -_WIDEST_NUMBER < value < _WIDEST_NUMBER:
        raise RequestError(f"{name} is not a finite number below 2^63; give another.")
    return value
