import torch, equipoise
from equipoise import kernels
def test_first(device):
    for n, k in ((40, 5), (600, 150)):
        for soft in (False, True):
            for distance in ("euclidean", "squared_euclidean", "cosine"):
                x = torch.randn(n, 6, device=device, requires_grad=True)
                y = torch.arange(n, device=device) % k
                l = equipoise.batch_triplet_loss(x, y, soft=soft, distance=distance)
                g, = torch.autograd.grad(l, x)
                with kernels.eager():
                    z = x.detach().double().requires_grad_()
                    e = equipoise.batch_triplet_loss(z, y, soft=soft, distance=distance)
                    h, = torch.autograd.grad(e, z)
                torch.testing.assert_close(l.double(), e, rtol=1e-6, atol=0)
                torch.testing.assert_close(g.double(), h, rtol=1e-5, atol=1e-6)
                print(n, soft, distance, (l-e).item(), (g-h).abs().max().item(), h.abs().max().item())
