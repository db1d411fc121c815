//! Every kernel against a plain reference in double precision, on the CPU device and on the GPU if there is one,
//! with awkward sizes and with device memory full of NaN beforehand.

mod token_logprob;

#[test]
fn the_devices_under_test_run_wgsl() {
    for device in crate::devices::devices() {
        assert_eq!(vision_ekipl::device::check_device(&device), Ok(()));
        assert_eq!(
            vision_ekipl::device::check_device(&device.autodiff()),
            Ok(())
        );
    }
}
