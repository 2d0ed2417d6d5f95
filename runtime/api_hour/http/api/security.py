class APIKey: pass
class Bearer: pass
