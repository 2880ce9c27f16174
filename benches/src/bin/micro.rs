//! scratch
use penstock_benches::sandbox::Sandbox;
fn main() {
    let mut s = Sandbox::new(Some("o200k")).unwrap();
    let base = |s: &mut Sandbox, t: &str| { let a = s.count(t, None).unwrap(); a };
    for t in ["qzxjqzxj", "qzxjqzxjqzxjqzxj", "qzxjqzxjqzxjqzxjq", "qzxjqzxjqzxjqzxjqzxjqzxjqzxjqzxj", " Internationalization", " разобрать", " громкоговорителя", "请您在收到本通知之日起十五个工作日内"] {
        let one = base(&mut s, t);
        println!("{:30} {} bytes {} fuel {} tokens", t, t.len(), one.fuel, one.tokens);
    }
    for n in [64usize, 128, 255, 256, 257, 1000, 4000, 8000, 8193, 16000, 100000] {
        for c in ["-", "q", "zq"] {
            let t = c.repeat(n / c.len());
            let one = base(&mut s, &t);
            println!("{c} x {n}: {:.1} fuel/byte, {} tokens", one.fuel as f64 / t.len() as f64, one.tokens);
        }
    }
}
