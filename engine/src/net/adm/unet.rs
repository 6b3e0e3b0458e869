// SPDX-License-Identifier: MIT OR Apache-2.0
//! The UNet itself: assembly and one evaluation (SPEC sections 7.3 and 8).

use candle_core::{DType, Device, Tensor};

use super::{
    AdmConfig,
    attention::Order,
    embedding::timestep_embedding,
    layers::{Given, Linear, Module, Style, affine, conv},
    norm::Affine,
    plan::{Block, Plan},
    resample::concat,
    trace::Trace,
};
use crate::{
    Cancel, Error, Result,
    net::{
        Network,
        params::{Params, TensorSource},
    },
    ops::{Conv2d, Precision},
};

/// An ADM network with its weights.
///
/// In f16 and bf16 exactly the convolutions of the blocks and the activations between them are in
/// that type; linear layers, norms, softmax and the head stay in f32 (SPEC section 8).
pub struct AdmNet {
    plan: Plan,
    device: Device,
    dtype: DType,
    time_embed: [Linear; 2],
    encoder: Vec<Stack>,
    middle: Stack,
    decoder: Vec<Stack>,
    head_norm: Affine,
    head: Conv2d,
}

/// The layers of one block, with their names.
struct Stack {
    name: String,
    modules: Vec<(String, Module)>,
}

impl AdmNet {
    /// Builds the network from the tensors of `source`, taking each and needing no other.
    ///
    /// # Errors
    /// [`Error::Setting`] for an impossible configuration, [`Error::File`] if a tensor is missing,
    /// left over or misshapen.
    pub fn build(
        config: &AdmConfig,
        source: &dyn TensorSource,
        device: &Device,
        precision: Precision,
    ) -> Result<Self> {
        let plan = config.plan()?;
        let Some(dtype) = precision.dtype() else {
            return Err(Error::setting("precision", precision.name(), "f32, f16 or bf16 for adm networks"));
        };
        let order = if config.use_new_attention_order { Order::New } else { Order::Legacy };
        let (mc, time) = (config.model_channels, plan.time_channels());
        let style = Style { time, scale_shift: config.use_scale_shift_norm, order, dtype };
        let root = Params::new(source, device);
        let stacks =
            |blocks: &[Block]| blocks.iter().map(|b| Stack::build(b, style, &root)).collect::<Result<_>>();
        let net = Self {
            time_embed: [
                Linear::build(&root.at("time_embed.0"), time, mc)?,
                Linear::build(&root.at("time_embed.2"), time, time)?,
            ],
            encoder: stacks(&plan.encoder)?,
            middle: Stack::build(&plan.middle, style, &root)?,
            decoder: stacks(&plan.decoder)?,
            head_norm: affine(&root.at("out.0"), plan.head)?,
            head: conv(&root.at("out.2"), &[config.out_channels, plan.head, 3, 3], 1, DType::F32)?,
            device: device.clone(),
            dtype,
            plan,
        };
        root.finish()?;
        Ok(net)
    }

    /// One evaluation, as [`Network::forward`], that reports what inner modules return.
    ///
    /// # Errors
    /// As [`Network::forward`].
    pub fn forward_traced(
        &self,
        x: &Tensor,
        noise_level: &[f32],
        cancel: &Cancel,
        trace: &mut Trace,
    ) -> Result<Tensor> {
        let (stride, channels) = (self.stride(), self.in_channels());
        match *x.dims() {
            [b, c, h, w]
                if c == channels && b == noise_level.len() && h * w > 0 && h % stride + w % stride == 0 => {}
            _ => {
                let b = noise_level.len();
                let needed = format!("({b}, {channels}, H, W) with H and W multiples of {stride}");
                return Err(Error::shape("input of the network", x.dims(), needed));
            }
        }
        let time = timestep_embedding(noise_level, self.plan.config().model_channels, &self.device)?;
        trace.see("timestep_embedding", &time);
        let time = self.time_embed[0].forward(&time)?;
        trace.see("time_embed.0", &time);
        let time = self.time_embed[1].forward(&time.silu()?)?;
        trace.see("time_embed.2", &time);
        trace.see("time_embed", &time);
        let given = Given { time: &time.silu()?, cancel };

        let mut x = x.to_dtype(self.dtype)?.permute((0, 2, 3, 1))?.contiguous()?;
        let mut kept = Vec::with_capacity(self.encoder.len());
        for stack in &self.encoder {
            x = stack.forward(x, &given, trace)?;
            kept.push(x.clone());
        }
        x = self.middle.forward(x, &given, trace)?;
        for stack in &self.decoder {
            let skip = kept.pop().expect("the plan keeps as many as it takes");
            x = stack.forward(concat(&x, &skip)?, &given, trace)?;
        }
        let x = self.head_norm.norm(&x.to_dtype(DType::F32)?, true)?;
        let x = self.head.forward(&x)?;
        trace.see("out.2", &x);
        trace.see("out", &x);
        Ok(x.permute((0, 3, 1, 2))?.contiguous()?)
    }
}

impl Stack {
    fn build(block: &Block, style: Style, root: &Params) -> Result<Self> {
        let build = |(i, layer)| {
            let name = format!("{}.{i}", block.name);
            Module::build(layer, style, &root.at(&name)).map(|module| (name, module))
        };
        let modules = block.layers.iter().enumerate().map(build).collect::<Result<_>>()?;
        Ok(Self { name: block.name.clone(), modules })
    }

    fn forward(&self, mut x: Tensor, given: &Given, trace: &mut Trace) -> Result<Tensor> {
        for (name, module) in &self.modules {
            given.cancel.check()?;
            trace.enter(name);
            x = module.forward(&x, given, trace)?;
            trace.leave();
            trace.see(name, &x);
        }
        trace.see(&self.name, &x);
        Ok(x)
    }
}

impl Network for AdmNet {
    fn forward(&self, x: &Tensor, noise_level: &[f32], cancel: &Cancel) -> Result<Tensor> {
        self.forward_traced(x, noise_level, cancel, &mut Trace::off())
    }

    fn in_channels(&self) -> usize {
        self.plan.config().in_channels
    }

    fn stride(&self) -> usize {
        self.plan.stride()
    }

    fn halo(&self) -> Option<usize> {
        None // GroupNorm and attention look at the whole picture.
    }

    fn macs_per_pixel(&self, height: usize, width: usize) -> f64 {
        self.plan.macs(height, width) / (height * width) as f64
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use candle_core::Var;

    use super::*;

    fn small() -> AdmConfig {
        AdmConfig {
            // Two channels per group: with one, what is added before a norm has no effect.
            model_channels: 64,
            num_res_blocks: 1,
            channel_mult: vec![1.0, 1.5],
            attention_resolutions: vec![2],
            num_head_channels: Some(16),
            ..AdmConfig::released_256()
        }
    }

    fn variables(config: &AdmConfig) -> BTreeMap<String, Var> {
        let weight = |(name, shape): (String, Vec<usize>)| {
            let count: usize = shape.iter().product();
            let fan = (count / shape[0]).max(4) as f32;
            let mut hash = name.bytes().fold(1u32, |h, b| h.wrapping_mul(31).wrapping_add(b as u32));
            let mut draw = || {
                hash = hash.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                ((hash >> 8) as f32 / 8_388_608.0 - 1.0) / fan.sqrt()
                    + if shape.len() == 1 { 0.5 } else { 0.0 }
            };
            let values: Vec<f32> = (0..count).map(|_| draw()).collect();
            (name, Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap()).unwrap())
        };
        config.plan().unwrap().tensors().into_iter().map(weight).collect()
    }

    fn source(variables: &BTreeMap<String, Var>) -> BTreeMap<String, Tensor> {
        variables.iter().map(|(n, v)| (n.clone(), v.as_tensor().clone())).collect()
    }

    fn picture(b: usize, h: usize, w: usize) -> Tensor {
        let values: Vec<f32> = (0..b * 3 * h * w).map(|i| (i * 7919 % 211) as f32 / 105.0 - 1.0).collect();
        Tensor::from_vec(values, (b, 3, h, w), &Device::Cpu).unwrap()
    }

    /// Loss of a fixed picture, in f64 sums.
    fn loss(net: &AdmNet) -> Tensor {
        let y = net.forward(&picture(1, 6, 8), &[3.0], &Cancel::default()).unwrap();
        y.to_dtype(DType::F64).unwrap().sqr().unwrap().sum_all().unwrap()
    }

    #[test]
    fn gradients_reach_every_variable_and_agree_with_differences() {
        let config = small();
        let variables = variables(&config);
        let net = AdmNet::build(&config, &source(&variables), &Device::Cpu, Precision::F32).unwrap();
        let grads = loss(&net).backward().unwrap();
        for (name, var) in &variables {
            let grad = grads.get(var.as_tensor()).unwrap_or_else(|| panic!("no gradient for {name}"));
            // Along its own gradient each variable changes the loss fastest: the step is well measured.
            let norm = grad.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap().sqrt() as f64;
            let step = 2e-3;
            let start = var.as_tensor().copy().unwrap();
            let moved = |sign: f64| {
                var.set(&(&start + (grad * (sign * step / norm)).unwrap()).unwrap()).unwrap();
                let net = AdmNet::build(&config, &source(&variables), &Device::Cpu, Precision::F32).unwrap();
                loss(&net).to_scalar::<f64>().unwrap()
            };
            let slope = (moved(1.0) - moved(-1.0)) / (2.0 * step);
            var.set(&start).unwrap();
            assert!((slope / norm - 1.0).abs() < 0.02, "{name}: {slope} measured, {norm} computed");
        }
    }

    #[test]
    fn half_types_stay_close_to_f32() {
        let config = small();
        let source = source(&variables(&config));
        let run = |precision| {
            let net = AdmNet::build(&config, &source, &Device::Cpu, precision).unwrap();
            let y = net.forward(&picture(2, 8, 10), &[0.1, 900.0], &Cancel::default()).unwrap();
            assert_eq!(y.dims(), [2, 3, 8, 10]);
            y.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let exact = run(Precision::F32);
        let size = exact.iter().fold(0f32, |m, v| m.max(v.abs()));
        for (precision, tolerance) in [(Precision::F16, 5e-3), (Precision::Bf16, 5e-2)] {
            let worst = run(precision).iter().zip(&exact).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst <= tolerance * size, "{precision:?}: {worst} of {size}");
            assert!(worst > 0.0, "{precision:?} gave the bits of f32");
        }
    }

    /// A processor that is slow with denormals meets none in convolutions: pictures and weights that are tiny are as
    /// good as zero.
    #[test]
    fn what_is_tiny_counts_as_zero() {
        let config = small();
        let variables = source(&variables(&config));
        let run = |brightness: f64, weight: f64| {
            let scaled = |t: &Tensor| if t.rank() == 4 { (t * weight).unwrap() } else { t.clone() };
            let tensors: BTreeMap<_, _> = variables.iter().map(|(n, t)| (n.clone(), scaled(t))).collect();
            let net = AdmNet::build(&config, &tensors, &Device::Cpu, Precision::F32).unwrap();
            let x = (picture(1, 16, 24) * brightness).unwrap();
            let y = net.forward(&x, &[3.0], &Cancel::default()).unwrap();
            y.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        assert!(run(1e-39, 1.0) == run(0.0, 1.0) && run(1.0, 1.0) != run(0.0, 1.0));
        assert!(run(1.0, 1e-39) == run(1.0, 0.0));
    }

    #[test]
    fn wrong_inputs_and_weights_are_named() {
        let config = small();
        let mut tensors = source(&variables(&config));
        let net = AdmNet::build(&config, &tensors, &Device::Cpu, Precision::F32).unwrap();
        let go = Cancel::default();
        for (x, levels) in [
            (picture(1, 7, 8), vec![1.0]),
            (picture(2, 8, 8), vec![1.0]),
            (picture(1, 8, 8).narrow(1, 0, 2).unwrap(), vec![1.0]),
            (picture(1, 8, 8).narrow(2, 0, 0).unwrap(), vec![1.0]),
            (picture(1, 8, 8).squeeze(0).unwrap(), vec![1.0]),
        ] {
            assert!(matches!(net.forward(&x, &levels, &go), Err(Error::Shape { .. })), "{x:?}");
        }
        go.cancel();
        assert!(matches!(net.forward(&picture(1, 8, 8), &[1.0], &go), Err(Error::Cancelled)));
        tensors.insert("label_emb.weight".into(), Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap());
        let err = AdmNet::build(&config, &tensors, &Device::Cpu, Precision::F32).err().unwrap().to_string();
        assert!(err.contains("label_emb.weight"), "{err}");
    }
}
