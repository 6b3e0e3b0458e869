// SPDX-License-Identifier: MIT OR Apache-2.0
//! A network that works tile by tile, and gives exactly what it would give on the whole frame.

use candle_core::Tensor;

use crate::{Cancel, Result, net::Network, tile::Plan};

/// A network and how its frames are cut.
pub struct TiledNetwork<'a> {
    pub network: &'a dyn Network,
    pub plan: Plan,
    /// Called after each tile.
    pub tick: &'a (dyn Fn() + Sync),
}

impl Network for TiledNetwork<'_> {
    /// H and W are those of the plan; `cancel` is checked before each tile, too.
    fn forward(&self, x: &Tensor, noise_level: &[f32], cancel: &Cancel) -> Result<Tensor> {
        self.tiles(x, cancel, |x| self.network.forward(x, noise_level, cancel))
    }

    fn added(&self, x: &Tensor, noise_level: &[f32], weight: f32, cancel: &Cancel) -> Result<Tensor> {
        self.tiles(x, cancel, |x| self.network.added(x, noise_level, weight, cancel))
    }

    fn in_channels(&self) -> usize {
        self.network.in_channels()
    }

    fn stride(&self) -> usize {
        self.network.stride()
    }

    fn halo(&self) -> Option<usize> {
        self.network.halo()
    }

    fn macs_per_pixel(&self, height: usize, width: usize) -> f64 {
        self.network.macs_per_pixel(height, width)
    }
}

impl TiledNetwork<'_> {
    /// What `evaluate` makes of each tile, side by side.
    fn tiles(
        &self,
        x: &Tensor,
        cancel: &Cancel,
        evaluate: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        if self.plan.is_whole() {
            cancel.check()?;
            let y = evaluate(x)?;
            (self.tick)();
            return Ok(y);
        }
        let (mut bands, mut band) = (Vec::new(), Vec::new());
        let mut top = 0;
        for tile in self.plan.tiles() {
            cancel.check()?;
            if tile.keep.rows.start != top {
                top = tile.keep.rows.start;
                bands.push(Tensor::cat(&std::mem::take(&mut band), 3)?);
            }
            band.push(tile.keep_in_read().cut(&evaluate(&tile.read.cut(x)?)?)?);
            (self.tick)();
        }
        bands.push(Tensor::cat(&band, 3)?);
        Ok(Tensor::cat(&bands, 2)?)
    }
}
