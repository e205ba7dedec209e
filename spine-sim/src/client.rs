pub struct SimSpine;
